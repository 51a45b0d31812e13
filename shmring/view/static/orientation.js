// The eight ways to lay a picture: turned by quarters after it was mirrored or not.

/** `turn` quarters clockwise, after mirroring left to right where `mirrored`. */
export function matrix({ turn, mirrored }) {
  const [c, s] = [[1, 0], [0, 1], [-1, 0], [0, -1]][turn];
  const x = mirrored ? -1 : 1;
  return [c * x, -s, s * x, c]; // rows: screen x, screen y (down)
}

const wrapped = (turn) => ((turn % 4) + 4) % 4;

export const turned = ({ turn, mirrored }) => ({ turn: wrapped(turn + 1), mirrored });

export const mirroredSideways = ({ turn, mirrored }) => ({ turn: wrapped(-turn), mirrored: !mirrored });

export const mirroredUpright = ({ turn, mirrored }) => ({ turn: wrapped(2 - turn), mirrored: !mirrored });
