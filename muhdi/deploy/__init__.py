"""Using a trained network: predictions as images, and exports to other formats."""
