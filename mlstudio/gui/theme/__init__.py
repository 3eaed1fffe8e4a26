"""The look: colours, type, icons and the style sheet, all read from `resources/theme/tokens.json`."""
