"""Each module turns a Verdict into something to look at: a string, never a file."""
