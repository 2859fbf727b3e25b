"""What a repair and a pruning hand back: their records, as text and as pages. Knows nothing of how they were done."""
