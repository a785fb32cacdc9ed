"""One module a runtime: loads a model and runs it on the device, and from and to arrays of the host."""
