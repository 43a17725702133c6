"""What a generation costs, read off the engine as it runs on tensors without memory."""
