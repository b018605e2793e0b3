"""A package, so that what its files share (scope "package") ends with the last of them, not with the session."""
