"""Strong customer authentication for any API: one-time tokens bound to one action and spent once."""
