"""From images without labels to a trained model: correcting what a model finds, and training on what is right."""
