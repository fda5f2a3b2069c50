"""The four services. Each lives in its own folder and shares nothing but contracts and chassis."""
