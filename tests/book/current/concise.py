# Section 4.5 of the current edition, block by block, written anew: the concise form.

# %% the libraries
from csoftmax import d2l1 as d2l
from csoftmax.d2l1 import F, nn, torch


# %% the model
class SoftmaxRegression(d2l.Classifier):
    def __init__(self, num_outputs, lr):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_outputs))

    def forward(self, X):
        return self.net(X)


# %% the loss of logits
@d2l.add_to_class(d2l.Classifier)
def loss(self, Y_hat, Y, averaged=True):
    logits = d2l.reshape(Y_hat, (-1, Y_hat.shape[-1]))
    labels = d2l.reshape(Y, (-1,))
    return F.cross_entropy(logits, labels, reduction="mean" if averaged else "none")


# %% training
data = d2l.FashionMNIST(batch_size=256)
model = SoftmaxRegression(num_outputs=10, lr=0.1)
trainer = d2l.Trainer(max_epochs=10)
trainer.fit(model, data)
