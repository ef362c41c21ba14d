# Section 4.3 of the current edition, block by block, written anew: the base class.

# %% the libraries
from csoftmax import d2l1 as d2l
from csoftmax.d2l1 import torch


# %% validation
class Classifier(d2l.Module):
    def validation_step(self, batch):
        Y_hat = self(*batch[:-1])
        self.plot("loss", self.loss(Y_hat, batch[-1]), train=False)
        self.plot("acc", self.accuracy(Y_hat, batch[-1]), train=False)


# %% the optimizer
@d2l.add_to_class(d2l.Module)
def configure_optimizers(self):
    return torch.optim.SGD(self.parameters(), lr=self.lr)


# %% the share of right predictions
@d2l.add_to_class(Classifier)
def accuracy(self, Y_hat, Y, averaged=True):
    Y_hat = d2l.reshape(Y_hat, (-1, Y_hat.shape[-1]))
    predicted = d2l.astype(d2l.argmax(Y_hat, axis=1), Y.dtype)
    right = d2l.astype(predicted == d2l.reshape(Y, -1), d2l.float32)
    return d2l.reduce_mean(right) if averaged else right
