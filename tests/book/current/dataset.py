# Section 4.2 of the current edition, block by block, written anew: the image data set.

# %% the libraries
import time

from csoftmax import d2l1 as d2l
from csoftmax.d2l1 import torch, torchvision, transforms

d2l.use_svg_display()


# %% the data set
class FashionMNIST(d2l.DataModule):
    def __init__(self, batch_size=64, resize=(28, 28)):
        super().__init__()
        self.save_hyperparameters()
        to_tensor = transforms.Compose([transforms.Resize(resize), transforms.ToTensor()])
        self.train, self.val = (
            torchvision.datasets.FashionMNIST(
                root=self.root, train=train, transform=to_tensor, download=True
            )
            for train in (True, False)
        )


# %% so many images
data = FashionMNIST(resize=(32, 32))
len(data.train), len(data.val)

# %% of this shape
data.train[0][0].shape


# %% the names of labels
@d2l.add_to_class(FashionMNIST)
def text_labels(self, indices):
    names = ["t-shirt", "trouser", "pullover", "dress", "coat"]
    names += ["sandal", "shirt", "sneaker", "bag", "ankle boot"]
    return [names[int(i)] for i in indices]


# %% batches
@d2l.add_to_class(FashionMNIST)
def get_dataloader(self, train):
    images = self.train if train else self.val
    return torch.utils.data.DataLoader(
        images, self.batch_size, shuffle=train, num_workers=self.num_workers
    )


# %% a batch
X, y = next(iter(data.train_dataloader()))
print(X.shape, X.dtype, y.shape, y.dtype)

# %% the time that an epoch's batches take
tic = time.time()
for X, y in data.train_dataloader():
    continue
f"{time.time() - tic:.2f} sec"


# %% pictures, as they are announced
def show_images(imgs, num_rows, num_cols, titles=None, scale=1.5):
    raise NotImplementedError


# %% the first images of a batch
@d2l.add_to_class(FashionMNIST)
def visualize(self, batch, nrows=1, ncols=8, labels=[]):
    X, y = batch
    labels = labels or self.text_labels(y)
    d2l.show_images(X.squeeze(1), nrows, ncols, titles=labels)


batch = next(iter(data.val_dataloader()))
data.visualize(batch)
