"""The command behind real reverse proxies, where they are installed."""
