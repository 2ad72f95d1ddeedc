"""ResNet-18 (He et al., 2015, https://arxiv.org/abs/1512.03385).

Parameter names and shapes are torchvision's, so that a state dict of `torchvision.models.resnet18` loads strictly.
"""

from torch import Tensor, nn

STAGE_WIDTHS = (64, 128, 256, 512)
BLOCKS_PER_STAGE = 2


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; the shortcut is projected where the shape changes."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False),
                nn.BatchNorm2d(width),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, width_in, H, W] to float [N, width, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        features: Tensor = self.relu(self.bn2(self.conv2(x)) + shortcut)
        return features


class ResNet18(nn.Module):
    """Normalised images, float [N, 3, S, S] with S >= 32, to logits, float [N, class_count]."""

    def __init__(self, class_count: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STAGE_WIDTHS[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STAGE_WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(STAGE_WIDTHS[0], STAGE_WIDTHS[0], stride=1)
        self.layer2 = _stage(STAGE_WIDTHS[0], STAGE_WIDTHS[1], stride=2)
        self.layer3 = _stage(STAGE_WIDTHS[1], STAGE_WIDTHS[2], stride=2)
        self.layer4 = _stage(STAGE_WIDTHS[2], STAGE_WIDTHS[3], stride=2)
        self.fc = nn.Linear(STAGE_WIDTHS[3], class_count)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def _stage(width_in: int, width: int, stride: int) -> nn.Sequential:
    blocks = [BasicBlock(width_in, width, stride)]
    blocks += [BasicBlock(width, width, stride=1) for _ in range(BLOCKS_PER_STAGE - 1)]
    return nn.Sequential(*blocks)
