"""Networks in plain Keras 3: they train on any Keras backend; TensorFlow exports and serves them."""
