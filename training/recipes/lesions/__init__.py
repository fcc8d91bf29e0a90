"""Networks that tell the lesions of diabetic retinopathy, and grades beside them."""
