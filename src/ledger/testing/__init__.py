"""What tests share: ours, and those of whoever writes a projection or another client."""
