package transitions

import (
	"fmt"
	"strings"

	"pawl/states"
)

// Mermaid draws the arrow table as a Mermaid state diagram, arrows between the
// same two states on one line.
func Mermaid(table []Arrow) string {
	var text strings.Builder
	text.WriteString("stateDiagram-v2\n    [*] --> " + string(states.NoIdentity) + "\n")
	for _, edge := range edges(table) {
		fmt.Fprintf(&text, "    %s --> %s: %s\n", edge.from, edge.to, strings.Join(edge.events, ", "))
	}
	return text.String()
}

// Dot draws the arrow table in Graphviz's language.
func Dot(table []Arrow) string {
	var text strings.Builder
	text.WriteString("digraph pawl {\n    rankdir=LR;\n")
	for _, edge := range edges(table) {
		fmt.Fprintf(&text, "    %s -> %s [label=%q];\n", edge.from, edge.to, strings.Join(edge.events, ", "))
	}
	text.WriteString("}\n")
	return text.String()
}

// Matrix writes state by event where each event leads, "-" where it is not legal.
func Matrix(table []Arrow) string {
	to := map[states.State]map[Event]states.State{}
	for _, arrow := range table {
		if to[arrow.From] == nil {
			to[arrow.From] = map[Event]states.State{}
		}
		to[arrow.From][arrow.Event] = arrow.To
	}
	var text strings.Builder
	for _, from := range states.All() {
		for _, event := range Events() {
			landing := string(to[from][event])
			if landing == "" {
				landing = "-"
			}
			fmt.Fprintf(&text, "%-12s %-14s %s\n", from, event, landing)
		}
	}
	return text.String()
}

type edge struct {
	from, to states.State
	events   []string
}

func edges(table []Arrow) []edge {
	var list []edge
	for _, arrow := range table {
		known := false
		for i := range list {
			if list[i].from == arrow.From && list[i].to == arrow.To {
				list[i].events, known = append(list[i].events, string(arrow.Event)), true
			}
		}
		if !known {
			list = append(list, edge{arrow.From, arrow.To, []string{string(arrow.Event)}})
		}
	}
	return list
}
