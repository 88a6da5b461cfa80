"""The network: architecture, objective, optimiser, devices, and the module that is stored. TensorFlow lives here."""
