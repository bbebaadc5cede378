"""Programs that maintain the documentation; tests import them and a person starts them."""
