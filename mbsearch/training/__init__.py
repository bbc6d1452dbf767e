"""Training of networks with torch: building, initial weights, training and evaluation."""
