"""Every method on equal terms, and how far the default is ahead."""
