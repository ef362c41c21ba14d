# Section 3.5 of the second edition, block by block, written anew: the image classification data.

# %% the libraries
from csoftmax import d2l
from csoftmax.d2l import data, torch, torchvision, transforms

d2l.use_svg_display()

# %% both parts of the data, as tensors of numbers from 0 to 1
trans = transforms.ToTensor()
mnist_train = torchvision.datasets.FashionMNIST(
    root="../data", train=True, transform=trans, download=True
)
mnist_test = torchvision.datasets.FashionMNIST(
    root="../data", train=False, transform=trans, download=True
)

# %% how many images
sizes = len(mnist_train), len(mnist_test)

# %% one channel, a height and a width
first_shape = mnist_train[0][0].shape

# %% the names of the classes
NAMES = "t-shirt trouser pullover dress coat sandal shirt sneaker bag ankle_boot".split()


def get_fashion_mnist_labels(labels):
    return [NAMES[int(label)].replace("_", " ") for label in labels]


# %% a grid of pictures
def show_images(imgs, num_rows, num_cols, titles=None, scale=1.5):
    _, grid = d2l.plt.subplots(num_rows, num_cols, figsize=(scale * num_cols, scale * num_rows))
    for i, cell in enumerate(grid.flatten()):
        cell.imshow(imgs[i].numpy() if torch.is_tensor(imgs[i]) else imgs[i])
        cell.axes.get_xaxis().set_visible(False)
        cell.axes.get_yaxis().set_visible(False)
        if titles:
            cell.set_title(titles[i])
    return grid.flatten()


# %% the first images
X, y = next(iter(data.DataLoader(mnist_train, batch_size=18)))
first_titles = get_fashion_mnist_labels(y)
axes = show_images(X.reshape(18, 28, 28), 2, 9, titles=first_titles)
n_axes = len(axes)

# %% minibatches in a random order
batch_size = 256


def get_dataloader_workers():
    return 4


train_iter = data.DataLoader(
    mnist_train, batch_size, shuffle=True, num_workers=get_dataloader_workers()
)

# %% how long reading takes
timer = d2l.Timer()
n_read = 0
for X, y in train_iter:
    n_read += y.numel()
reading = f"{timer.stop():.2f} sec"


# %% all of it in one function
def load_data_fashion_mnist(batch_size, resize=None):
    steps = [transforms.ToTensor()]
    if resize:
        steps.insert(0, transforms.Resize(resize))
    loaders = []
    for train in (True, False):
        images = torchvision.datasets.FashionMNIST(
            root="../data", train=train, transform=transforms.Compose(steps), download=True
        )
        loaders.append(
            data.DataLoader(images, batch_size, shuffle=train, num_workers=get_dataloader_workers())
        )
    return tuple(loaders)


# %% images of another size
train_iter, test_iter = load_data_fashion_mnist(32, resize=64)
for X, y in train_iter:
    resized = tuple(X.shape), str(X.dtype), tuple(y.shape), str(y.dtype)
    break
