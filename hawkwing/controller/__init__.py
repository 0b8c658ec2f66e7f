"""The path from HawkEye to the agent: the messages and the stream that carries them."""
