"""What things are: frozen dataclasses and enumerations, standard library only, no input or output."""
