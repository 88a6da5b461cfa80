"""The page of `instseg label`: HTTP, its safety, pictures of pixels and labels. Only this package knows Starlette."""
