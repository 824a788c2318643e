"""What is learned: data, preprocessing, Keras networks, training, evaluation, versions. Knows no HTTP."""
