"""Trains a one-stage box detector; overlapping boxes are suppressed (by torchvision where it is there)."""

import torch
import torch.nn as nn
import torch.nn.functional as F

try:
    from torchvision.ops import nms
except ImportError:
    nms = None

CLASSES, STRIDE, SIZE = 3, 8, 64


def overlap(a, b):
    """Intersection over union of every box of `a` with every box of `b`: [len(a), len(b)]."""
    area_a, area_b = ((box[:, 2:] - box[:, :2]).clamp(min=0).prod(dim=1) for box in (a, b))
    corner = torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])
    shared = corner.clamp(min=0).prod(dim=2)
    return shared / (area_a[:, None] + area_b[None] - shared).clamp(min=1e-6)


def suppress(boxes, scores, threshold):
    """Indices of the boxes that stay, the best first."""
    if nms is not None:
        return nms(boxes, scores, threshold)
    order = scores.argsort(descending=True)
    too_close = overlap(boxes[order], boxes[order]) > threshold
    stays = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    for i in range(len(order)):
        if stays[i]:
            stays[i + 1 :] &= ~too_close[i, i + 1 :]
    return order[stays]


class Detector(nn.Module):
    """Class scores and four distances for each cell of the image."""

    def __init__(self):
        super().__init__()
        widths = (3, 16, 32, 48)
        self.body = nn.Sequential(
            *(
                layer
                for i in range(3)
                for layer in (
                    nn.Conv2d(widths[i], widths[i + 1], 3, stride=2, padding=1),
                    nn.BatchNorm2d(widths[i + 1]),
                    nn.SiLU(inplace=True),
                )
            )
        )
        self.scores, self.distances = nn.Conv2d(48, CLASSES, 1), nn.Conv2d(48, 4, 1)
        nn.init.constant_(self.distances.bias, 2.0)

    def forward(self, images):
        x = self.body(images)
        scores = self.scores(x).flatten(2).transpose(1, 2)
        distances = F.softplus(self.distances(x)).flatten(2).transpose(1, 2) * STRIDE
        side = torch.arange(x.size(-1), device=x.device) * STRIDE + STRIDE / 2
        y, x = torch.meshgrid(side, side, indexing="ij")
        centers = torch.stack((x, y), dim=-1).view(-1, 2)
        boxes = torch.cat((centers - distances[..., :2], centers + distances[..., 2:]), dim=-1)
        return scores, boxes, centers


def loss_of(scores, boxes, centers, truth, labels):
    """Focal loss of the classes, and one minus the overlap of the boxes of cells that lie in an object."""
    inside = ((centers[None] > truth[:, None, :2]) & (centers[None] < truth[:, None, 2:])).all(dim=-1)
    object_of_cell = inside.float().argmax(dim=0)
    positive = inside.any(dim=0)
    wanted = F.one_hot(labels[object_of_cell], CLASSES).float() * positive[:, None]
    probability = scores.sigmoid()
    plain = F.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    focal = (plain * (wanted - probability).abs() ** 2).sum() / positive.sum().clamp(min=1)
    matched = overlap(boxes[positive], truth)[torch.arange(int(positive.sum())), object_of_cell[positive]]
    return focal + (1 - matched).mean()


def main():
    torch.manual_seed(0)
    print("NMS of torchvision" if nms is not None else "NMS in plain torch")
    model = Detector().cuda()
    images = torch.randn(4, 3, SIZE, SIZE, device="cuda")
    corner = torch.rand(4, 2, 2, device="cuda") * 30
    truth = torch.cat((corner, corner + 12 + torch.rand(4, 2, 2, device="cuda") * 20), dim=-1)
    labels = torch.randint(0, CLASSES, (4, 2), device="cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(4):
        scores, boxes, centers = model(images)
        loss = torch.stack(
            [loss_of(scores[i], boxes[i], centers, truth[i], labels[i]) for i in range(len(images))]
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss.item():.4f}")

    model.eval()
    with torch.no_grad():
        scores, boxes, _ = model(images)
    for i in range(2):
        best, kind = scores[i].sigmoid().max(dim=-1)
        likely = torch.nonzero(best > best.median()).squeeze(1)
        # Boxes of different classes are moved apart, so that they do not suppress one another.
        apart = boxes[i][likely] + (kind[likely] * 4 * SIZE)[:, None]
        kept = likely[suppress(apart, best[likely], 0.5)]
        print(f"image {i}: {len(kept)} of {len(likely)} boxes stay")


if __name__ == "__main__":
    main()
