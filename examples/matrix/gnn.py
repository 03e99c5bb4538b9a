"""Trains a graph network on a random graph: messages of edges are added up, or attended to, by node."""

import torch
import torch.nn as nn
import torch.nn.functional as F

NODES, EDGES, FEATURES, HIDDEN, CLASSES = 200, 1200, 16, 32, 4


class MeanConvolution(nn.Module):
    """Each node's own features and the mean of its neighbours'."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.own, self.neighbour = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs, bias=False)

    def forward(self, x, source, target):
        total = torch.zeros_like(x).index_add_(0, target, x[source])
        degree = torch.bincount(target, minlength=x.size(0)).clamp(min=1)
        return self.own(x) + self.neighbour(total / degree[:, None])


class GraphAttention(nn.Module):
    """A softmax over the edges that meet at a node."""

    def __init__(self, width):
        super().__init__()
        self.value = nn.Linear(width, width)
        self.score = nn.Linear(2 * width, 1)

    def forward(self, x, source, target):
        value = self.value(x)
        score = F.leaky_relu(self.score(torch.cat((value[source], value[target]), dim=-1)), 0.2).squeeze(-1)
        most = score.new_full((x.size(0),), float("-inf")).scatter_reduce(0, target, score, "amax")
        weight = (score - most[target]).exp()
        total = weight.new_zeros(x.size(0)).scatter_add(0, target, weight)
        weight = weight / total[target]
        gathered = torch.zeros_like(value).scatter_add(
            0, target[:, None].expand(-1, value.size(1)), weight[:, None] * value[source]
        )
        return F.elu(gathered)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = MeanConvolution(FEATURES, HIDDEN)
        self.second = GraphAttention(HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x, source, target, graph, graphs):
        x = F.relu(self.first(x, source, target))
        x = self.second(x, source, target)
        pooled = x.new_zeros(graphs, x.size(1)).index_reduce_(0, graph, x, "mean", include_self=False)
        return self.head(x), self.head(pooled)


def main():
    torch.manual_seed(0)
    x = torch.randn(NODES, FEATURES, device="cuda")
    edges = torch.unique(torch.randint(0, NODES, (2, EDGES), device="cuda"), dim=1)
    source, target = edges[:, edges[0] != edges[1]]
    graph = torch.arange(NODES, device="cuda") // (NODES // 4)
    labels = torch.randint(0, CLASSES, (NODES,), device="cuda")
    whole = torch.randint(0, CLASSES, (4,), device="cuda")
    known = torch.rand(NODES, device="cuda") < 0.5
    model = Network().cuda()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(4):
        nodes, graphs = model(x, source, target, graph, 4)
        loss = F.cross_entropy(nodes[known], labels[known]) + F.cross_entropy(graphs, whole)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss.item():.4f}")
    right = (nodes.argmax(-1) == labels)[~known].float().mean()
    print(f"accuracy on the others {right.item():.3f}")


if __name__ == "__main__":
    main()
