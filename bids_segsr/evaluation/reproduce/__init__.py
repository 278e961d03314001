"""The experiments of an article on the data that it used."""
