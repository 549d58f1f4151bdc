package fleet

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
	"time"
)

// Chart draws results of the two policies side by side: for each pair the load
// curves over time, with what Vault can serve, and below them the share of VMs that are back.
type Chart struct {
	Title, Subtitle string
	Panels          []Panel
}

// Panel is one pair of curves, from Before seconds before Vault's return to After seconds after it.
type Panel struct {
	Title         string
	Results       []Result
	Before, After int
}

// The layout, in pixels.
const (
	panelWidth, loadHeight, shareHeight = 560, 300, 150
	marginLeft, marginTop, gap          = 78, 112, 92
	between                             = 46 // load curve and share curve
	footer                              = 70
)

// colours of the policies, told apart by lightness too.
var colours = map[Policy]string{Pawl: "#0b6e4f", VaultAgent: "#d1495b"}

const style = `text{font-family:system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;font-size:12px;fill:#333}
.title{font-size:19px;font-weight:600;fill:#111}.subtitle{font-size:13px;fill:#555}.panel{font-size:14px;font-weight:600;fill:#111}
.axis{stroke:#888;stroke-width:1}.grid{stroke:#e6e6e6;stroke-width:1}.tick{fill:#666;font-size:11px}
.limit{stroke:#555;stroke-width:1.2;stroke-dasharray:6 4}.twice{stroke:#b8860b;stroke-width:1.2;stroke-dasharray:2 3}
.return{stroke:#bbb;stroke-width:1}.halo{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}`

// drawing is an SVG under way.
type drawing struct{ strings.Builder }

func (d *drawing) add(format string, arguments ...any) {
	fmt.Fprintf(&d.Builder, format+"\n", arguments...)
}

func (d *drawing) line(class string, x1, y1, x2, y2 float64) {
	d.add(`<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, class, x1, y1, x2, y2)
}

func (d *drawing) text(class, anchor string, x, y float64, format string, arguments ...any) {
	d.add(`<text class="%s" text-anchor="%s" x="%.1f" y="%.1f">%s</text>`, class, anchor, x, y, html.EscapeString(fmt.Sprintf(format, arguments...)))
}

// WriteTo draws the chart as an SVG.
func (c Chart) WriteTo(to io.Writer) (int64, error) {
	d := &drawing{}
	width := marginLeft + len(c.Panels)*(panelWidth+gap) - gap + 40
	height := marginTop + loadHeight + between + shareHeight + footer
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">`, width, height, width, height)
	d.add(`<style>%s</style><rect width="100%%" height="100%%" fill="#fff"/>`, style)
	d.text("title", "start", 24, 34, "%s", c.Title)
	d.text("subtitle", "start", 24, 56, "%s", c.Subtitle)
	x := float64(24)
	for _, policy := range []Policy{Pawl, VaultAgent} {
		d.add(`<rect x="%.1f" y="68" width="22" height="4" fill="%s"/>`, x, colours[policy])
		d.text("", "start", x+28, 74, "%s", policy)
		x += 90
	}
	for i, panel := range c.Panels {
		panel.draw(d, float64(marginLeft+i*(panelWidth+gap)))
	}
	d.add("</svg>")
	written, err := io.WriteString(to, d.String())
	return int64(written), err
}

// frame is a rectangle with scales.
type frame struct {
	left, top, height float64
	from, to          float64 // of x, seconds after Vault's return
	most              float64 // of y
}

func (f frame) x(at float64) float64    { return f.left + (at-f.from)/(f.to-f.from)*panelWidth }
func (f frame) y(value float64) float64 { return f.top + f.height*(1-min(value, f.most)/f.most) }

func (p Panel) draw(d *drawing, left float64) {
	capacity := p.Results[0].Scenario.Vault.Returns
	most := 2 * capacity
	for _, r := range p.Results {
		peak, _ := r.Peak()
		most = max(most, peak)
	}
	load := frame{left: left, top: marginTop, height: loadHeight, from: -float64(p.Before), to: float64(p.After), most: most * 1.05}
	load.most = math.Ceil(load.most/load.step()) * load.step()
	d.text("panel", "start", left, marginTop-12, "%s", p.Title)
	load.axes(d, "%.0f")
	d.add(`<text text-anchor="middle" transform="translate(%.1f %.1f) rotate(-90)">asked of Vault, VMs' worth a second</text>`, left-48, load.top+load.height/2)
	load.at(d, "twice", 2*capacity, "2x what Vault can serve")
	load.at(d, "limit", capacity, fmt.Sprintf("what Vault can serve: %.0f a second", capacity))
	for i := len(p.Results) - 1; i >= 0; i-- {
		r := p.Results[i]
		d.add(`<path fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round" d="%s"/>`, colours[r.Policy], load.curve(r))
	}
	share := frame{left: left, top: marginTop + loadHeight + between, height: shareHeight, from: load.from, to: load.to, most: 100}
	share.axes(d, "%.0f%%")
	d.text("", "start", left, share.top-10, "VMs that are back")
	for i := len(p.Results) - 1; i >= 0; i-- {
		r := p.Results[i]
		d.add(`<path fill="none" stroke="%s" stroke-width="2" d="%s"/>`, colours[r.Policy], share.returned(r))
		if worst := r.Within(1); worst >= 0 && worst.Seconds() < share.to {
			d.add(`<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`, share.x(worst.Seconds()), share.y(100), colours[r.Policy])
		}
	}
	for i, r := range p.Results {
		peak, _ := r.Peak()
		text := fmt.Sprintf("%s: peak %.1fx, half are back after %s, all after %s", r.Policy, peak/capacity, back(r.Within(0.5)), back(r.Within(1)))
		d.add(`<text class="halo" text-anchor="end" x="%.1f" y="%.1f" style="fill:%s">%s</text>`,
			left+panelWidth-8, share.top+shareHeight-34+float64(i)*18, colours[r.Policy], html.EscapeString(text))
	}
	when := "seconds after Vault's return"
	if p.Results[0].Scenario.Length == 0 {
		when = "seconds after the first boot"
	}
	d.text("", "middle", left+panelWidth/2, share.top+shareHeight+38, "%s", when)
}

// step is between two ticks of y.
func (f frame) step() float64 {
	if f.most == 100 {
		return 25
	}
	return rounded(f.most / 6)
}

// axes draws grid, axes and ticks.
func (f frame) axes(d *drawing, label string) {
	step := f.step()
	for value := 0.0; value <= f.most+1e-9; value += step {
		d.line("grid", f.left, f.y(value), f.left+panelWidth, f.y(value))
		d.text("tick", "end", f.left-8, f.y(value)+4, label, value)
	}
	span := rounded((f.to - f.from) / 8)
	for at := math.Ceil(f.from/span) * span; at <= f.to+1e-9; at += span {
		if at == 0 {
			at = 0 // Ceil made it -0
		}
		d.line("grid", f.x(at), f.top, f.x(at), f.top+f.height)
		d.text("tick", "middle", f.x(at), f.top+f.height+16, "%.0f", at)
	}
	d.line("axis", f.left, f.top+f.height, f.left+panelWidth, f.top+f.height)
	d.line("axis", f.left, f.top, f.left, f.top+f.height)
	if f.from < 0 {
		d.line("return", f.x(0), f.top, f.x(0), f.top+f.height)
	}
}

// at draws a limit with its name.
func (f frame) at(d *drawing, class string, value float64, name string) {
	d.line(class, f.left, f.y(value), f.left+panelWidth, f.y(value))
	d.text("halo", "end", f.left+panelWidth-6, f.y(value)-6, "%s", name)
}

// curve is the load, a step a second.
func (f frame) curve(r Result) string {
	var path strings.Builder
	for at := int(f.from); at < int(f.to); at++ {
		value := 0.0
		if second := r.Return() + at; second >= 0 && second < len(r.Load) {
			value = r.Load[second]
		}
		verb := "L"
		if at == int(f.from) {
			verb = "M"
		}
		fmt.Fprintf(&path, "%s%.1f %.1f L%.1f %.1f ", verb, f.x(float64(at)), f.y(value), f.x(float64(at+1)), f.y(value))
	}
	return path.String()
}

// returned is the share of VMs that are back.
func (f frame) returned(r Result) string {
	var path strings.Builder
	fmt.Fprintf(&path, "M%.1f %.1f ", f.x(f.from), f.y(0))
	all := len(r.Back) + r.Lost
	for i := 0; i <= 200; i++ {
		at := f.to * float64(i) / 200
		count := 0
		for count < len(r.Back) && r.Back[count] <= time.Duration(at*float64(time.Second)) {
			count++
		}
		fmt.Fprintf(&path, "L%.1f %.1f ", f.x(at), f.y(100*float64(count)/float64(all)))
	}
	return path.String()
}

// rounded is the next of 1, 2, 2.5 and 5 times a power of ten.
func rounded(value float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(value)))
	for _, step := range []float64{1, 2, 2.5, 5, 10} {
		if value <= step*power+1e-9 {
			return step * power
		}
	}
	return value
}
