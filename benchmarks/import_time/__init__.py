"""What an import costs over `import torch`: CPU time, modules, memory."""
