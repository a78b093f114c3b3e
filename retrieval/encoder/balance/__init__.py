"""From the losses of a step's tasks to one gradient: weights of losses, weights of gradients, gradient surgery."""
