"""The demo's model, its test images and the script that trains it."""

from tritonforge_generator.demo.digits import DigitsTest, digits_model_path, digits_test_split

__all__ = ["DigitsTest", "digits_model_path", "digits_test_split"]
