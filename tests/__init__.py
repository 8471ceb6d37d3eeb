"""Product-level and unit tests. Everything here uses real parts: real files, real servers, a real (tiny) model."""
