"""The protocol of consuming, committing and relaying as a machine whose every state is looked at."""
