"""The methods: how a credential is stored, and how an answer is compared with it."""
