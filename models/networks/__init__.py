"""Networks in plain Keras 3, for any Keras backend; TensorFlow exports and serves them."""
