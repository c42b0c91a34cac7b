// The hand-off by the number of processes, as SVG: both axes logarithmic, one line for each peer, its name at the line's end.
import type { Peer } from '../peers/peer.ts'
import { type Figures, SIZES } from './peer-figures.ts'
import { OURS } from './peer-list.ts'

const WIDTH = 860
const HEIGHT = 480
const PLOT = { left: 70, right: 650, top: 56, bottom: 420 }
const LABEL_HEIGHT = 18

// Told apart by those who see red and green alike, too (after Okabe and Ito), and by the dashes. Dark backgrounds get lighter ones.
const STROKES = [
  { light: '#0072b2', dark: '#56b4e9', dashes: '' },
  { light: '#d55e00', dark: '#ff9d5c', dashes: '7 3' },
  { light: '#00795a', dark: '#2fd3a3', dashes: '2 3' },
  { light: '#a8407f', dark: '#ec9fcb', dashes: '10 3 2 3' },
  { light: '#7a6a00', dark: '#f0e442', dashes: '5 2' },
  { light: '#6a4fb3', dark: '#b7a5f2', dashes: '3 2' },
  { light: '#8a5a2b', dark: '#d9aa7a', dashes: '8 2 2 2 2 2' },
  { light: '#555555', dark: '#bbbbbb', dashes: '1 3' },
] as const

interface Point {
  readonly x: number
  readonly y: number
}

interface Line {
  readonly peer: Peer
  readonly points: readonly Point[]
  readonly stroke: number
  readonly label: string
  /** Whether there is a point for the last size. */
  readonly isComplete: boolean
  labelY: number
}

function tick(us: number): string {
  if (us < 1000) return `${us} µs`
  return us < 1e6 ? `${us / 1000} ms` : `${us / 1e6} s`
}

/** Pushes labels apart that would lie upon each other, and back into the picture. */
function spread(lines: readonly Line[]): void {
  const sorted = [...lines].sort((a, b) => a.labelY - b.labelY)
  let lowest = PLOT.top
  for (const line of sorted) {
    line.labelY = Math.max(line.labelY, lowest)
    lowest = line.labelY + LABEL_HEIGHT
  }
  let highest = PLOT.bottom
  for (const line of sorted.reverse()) {
    line.labelY = Math.min(line.labelY, highest)
    highest = line.labelY - LABEL_HEIGHT
  }
}

function style(): string {
  const colours = (tone: 'light' | 'dark') =>
    STROKES.map((stroke, index) => `.p${index} { stroke: ${stroke[tone]} } .f${index} { fill: ${stroke[tone]} }`).join(
      ' ',
    )
  return [
    'text { font: 13px system-ui, sans-serif; fill: #333 } .title { font-size: 16px; font-weight: 600 }',
    '.ours { font-weight: 700 } .background { fill: #fff } .grid { stroke: #ddd } .axis { stroke: #888 }',
    `polyline { fill: none; stroke-width: 2 } polyline.ours { stroke-width: 3.5 } .leader { stroke-width: 1; opacity: 0.5 } ${colours('light')}`,
    '@media (prefers-color-scheme: dark) {',
    `text { fill: #ccc } .background { fill: #0d1117 } .grid { stroke: #2a2f37 } .axis { stroke: #777 } ${colours('dark')} }`,
  ].join('\n')
}

function drawLine({ peer, points, stroke, label, isComplete, labelY }: Line): string {
  const ours = peer === OURS ? ' ours' : ''
  const { dashes } = STROKES[stroke % STROKES.length] ?? STROKES[0]
  const end = points[points.length - 1] ?? { x: 0, y: 0 }
  const dashed = dashes === '' ? '' : ` stroke-dasharray="${dashes}"`
  return [
    `<polyline class="p${stroke}${ours}"${dashed} points="${points.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ')}"/>`,
    ...points.map(
      ({ x, y }) => `<circle class="f${stroke}" cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${ours ? 4.5 : 3}"/>`,
    ),
    ...(isComplete
      ? [
          `<line class="p${stroke} leader" x1="${(end.x + 6).toFixed(1)}" y1="${end.y.toFixed(1)}" x2="${PLOT.right + 24}" y2="${labelY.toFixed(1)}"/>`,
        ]
      : []),
    `<text class="f${stroke}${ours}" x="${PLOT.right + 30}" y="${(labelY + 4.5).toFixed(1)}">${label}</text>`,
  ].join('\n')
}

export function svg(figures: Figures, peers: readonly Peer[]): string {
  const values = peers.flatMap((peer) => SIZES.flatMap((size) => figures.median(peer, `handOffUs${size}`) ?? []))
  const low = Math.floor(Math.log10(Math.min(...values)))
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))))
  const x = (size: number) => {
    const [first, last] = [Math.log2(SIZES[0]), Math.log2(SIZES[SIZES.length - 1] ?? 128)]
    return PLOT.left + 20 + ((Math.log2(size) - first) / (last - first)) * (PLOT.right - PLOT.left - 40)
  }
  const y = (us: number) => PLOT.bottom - ((Math.log10(us) - low) / (high - low)) * (PLOT.bottom - PLOT.top)
  const lines = peers.flatMap((peer, stroke): Line[] => {
    const sizes = SIZES.filter((size) => figures.median(peer, `handOffUs${size}`) !== undefined)
    const points = sizes.map((size) => ({ x: x(size), y: y(figures.median(peer, `handOffUs${size}`) ?? 0) }))
    const end = points[points.length - 1]
    if (end === undefined) return []
    const isComplete = points.length === SIZES.length
    const label = isComplete ? peer.name : `${peer.name} (to ${sizes[sizes.length - 1]})`
    return [{ peer, points, stroke, label, isComplete, labelY: end.y }]
  })
  spread(lines)
  const powers = Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index))
  const name = 'Hand-off: from the release to the next owner, by how many processes take turns'
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${name}">`,
    `<style>${style()}</style>`,
    `<rect class="background" width="${WIDTH}" height="${HEIGHT}"/>`,
    `<text class="title" x="${PLOT.left}" y="30">${name}</text>`,
    ...powers.map((us) => `<line class="grid" x1="${PLOT.left}" y1="${y(us)}" x2="${PLOT.right}" y2="${y(us)}"/>`),
    ...powers.map((us) => `<text text-anchor="end" x="${PLOT.left - 8}" y="${y(us) + 4.5}">${tick(us)}</text>`),
    `<line class="axis" x1="${PLOT.left}" y1="${PLOT.bottom}" x2="${PLOT.right}" y2="${PLOT.bottom}"/>`,
    ...SIZES.map((size) => `<text text-anchor="middle" x="${x(size)}" y="${PLOT.bottom + 22}">${size}</text>`),
    `<text text-anchor="middle" x="${(PLOT.left + PLOT.right) / 2}" y="${PLOT.bottom + 46}">processes; both axes are logarithmic; medians, less is better</text>`,
    // Ours lies on top.
    ...lines.reverse().map(drawLine),
    '</svg>',
    '',
  ].join('\n')
}
