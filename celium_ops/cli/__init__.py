"""What the operator types: parse, call one workflow, show the answer."""
