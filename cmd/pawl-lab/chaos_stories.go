package main

import (
	"errors"
	"fmt"

	"pawl/testdata/scenarios"
)

// toldWalk checks that the stories of testdata/scenarios which this fault plays
// again, went the walk that they tell and that the machine went in virtual time.
func (s *scene) toldWalk() error {
	stories, err := scenarios.Lab()
	if err != nil {
		return err
	}
	var states []string
	for i, one := range s.result.Moves {
		if i == 0 {
			states = append(states, one.From)
		}
		states = append(states, one.To)
	}
	var wrong []error
	for _, story := range stories {
		if story.Fault != s.fault.name {
			continue
		}
		if err := story.Walk.Fits(states); err != nil {
			wrong = append(wrong, fmt.Errorf("the story %s: %w", story.File, err))
		}
	}
	return errors.Join(wrong...)
}
