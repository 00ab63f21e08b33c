"""The command `init`: a look at a folder of images, and a first configuration for it."""
