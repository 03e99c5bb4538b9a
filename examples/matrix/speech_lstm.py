"""Trains a bidirectional LSTM on sequences of unequal length with the CTC loss, as speech recognisers do."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

FEATURES, HIDDEN, SYMBOLS = 20, 48, 12


class Recogniser(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, HIDDEN, 3, padding=1)
        self.lstm = nn.LSTM(HIDDEN, HIDDEN, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)
        self.head = nn.Linear(2 * HIDDEN, SYMBOLS)

    def forward(self, features, lengths):
        x = F.relu(self.conv(features.transpose(1, 2))).transpose(1, 2)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.head(output).log_softmax(-1)


def greedy(scores):
    """The best symbol of each frame, repetitions and blanks removed."""
    best = torch.unique_consecutive(scores.argmax(-1))
    return best[best != 0].tolist()


def main():
    torch.manual_seed(0)
    model = Recogniser().cuda()
    lengths = torch.tensor([20, 15, 18, 11])  # on the CPU, as pack_padded_sequence wants them
    features = torch.randn(4, 20, FEATURES, device="cuda")
    targets = torch.randint(1, SYMBOLS, (4, 6), device="cuda")
    target_lengths = torch.tensor([6, 4, 5, 3])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(3):
        scores = model(features, lengths)
        loss = F.ctc_loss(scores.transpose(0, 1), targets, lengths, target_lengths, zero_infinity=True)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        print(f"step {step}: loss {loss.item():.4f}")
    print("transcript", greedy(scores[0].detach()))


if __name__ == "__main__":
    main()
