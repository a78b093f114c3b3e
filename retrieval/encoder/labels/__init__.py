"""Where labels are few: prompts, contrastive warm-up, class names as heads, pseudo-labels, and what to label next."""
