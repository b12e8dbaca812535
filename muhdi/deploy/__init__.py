"""Using a trained network: predictions as pictures, and exports to other formats."""
