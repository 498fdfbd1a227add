"""Configs: their schema, the components that they name, and the lines that explain a mistake."""
