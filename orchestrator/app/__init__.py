"""A command from plan to exit code: joins the engine to servers, journal, views and files."""
