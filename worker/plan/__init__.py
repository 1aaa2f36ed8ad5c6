"""What a file of rows would cost, before it is sent: counted by the run's own code, without a model call."""
