"""What an update of exponentially averaged weights costs, over one fused call on cached lists of tensors."""
