package transitions

import "strings"

// change is one thing that time does to a configuration.
type change struct {
	name string
	when func(configuration) bool
	make func(*configuration)
}

// changes are all that time does.
var changes = func() []change {
	alive := func(grade int8) bool { return grade == lifeLive || grade == lifeDue || grade == lifeOverdue }
	due := func(grade int8) bool { return grade == lifeDue || grade == lifeOverdue }
	// One credential of an epoch is due at a time: their rows do not see each other.
	nothingDue := func(c configuration) bool { return !due(c.vault) && !due(c.certificate) && !due(c.consul) }
	changes := []change{
		{"reattest due", func(c configuration) bool { return c.reattest == lifeLive && c.vault != lifeDead },
			func(c *configuration) { c.reattest, c.jwtFresh = lifeDue, false }},
		{"next vault token expired", func(c configuration) bool { return c.next == nextEpoch },
			func(c *configuration) { c.nextExpiry = true }},
	}
	for _, life := range []struct {
		name  string
		field func(*configuration) *int8
		due   bool
	}{
		{"jwt", func(c *configuration) *int8 { return &c.jwt }, false},
		{"vault token", func(c *configuration) *int8 { return &c.vault }, true},
		{"certificate", func(c *configuration) *int8 { return &c.certificate }, true},
		{"consul token", func(c *configuration) *int8 { return &c.consul }, true},
		{"next certificate", func(c *configuration) *int8 { return &c.nextCertificateLife }, false},
		{"next consul token", func(c *configuration) *int8 { return &c.nextConsul }, false},
	} {
		changes = append(changes, change{life.name + " expired",
			func(c configuration) bool {
				next := !strings.HasPrefix(life.name, "next") || c.next == nextEpoch || c.next != nextNone && life.name == "next certificate"
				return next && alive(*life.field(&c))
			},
			func(c *configuration) { *life.field(c) = lifeExpired }})
		if life.due {
			changes = append(changes, change{life.name + " due",
				func(c configuration) bool { return nothingDue(c) && *life.field(&c) == lifeLive },
				func(c *configuration) { *life.field(c) = lifeDue }})
		}
	}
	return changes
}()

// outside is all news there is that holds a rung.
var outside = []News{AgentStopped("searched"), ExporterStopped("searched"), ClockJumped("searched")}
