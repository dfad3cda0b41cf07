package server

import (
	"context"
	"sync"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// showTasks is POST /v1/tasks: every site is asked just now.
func (s *Server) showTasks(ctx context.Context, _ string, _ []byte) ([]byte, error) {
	sys, err := s.must()
	if err != nil {
		return nil, err
	}
	servers := sys.state.Servers()
	out := api.Tasks{Sites: make([]api.SiteTasks, len(servers))}
	var wg sync.WaitGroup
	for i, row := range servers {
		wg.Go(func() { out.Sites[i] = s.siteTasks(ctx, row) })
	}
	wg.Wait()
	return envelope.Marshal(out)
}

func (s *Server) siteTasks(ctx context.Context, row ledger.Server) api.SiteTasks {
	if row.ID == s.cfg.ID {
		return s.ownTasks()
	}
	ctx, cancel := context.WithTimeout(ctx, siteTimeout)
	defer cancel()
	out := api.SiteTasks{Server: row.ID, Open: []api.Task{}, Illegal: []api.IllegalTask{}}
	answer, err := s.askSite(ctx, row.ID, nil, "tasks")
	if err == nil {
		var got api.SiteTasks
		if err = envelope.Unmarshal(answer, &got); err == nil && got.Server == row.ID {
			return got
		}
	}
	out.Text = "it answers for another site"
	if err != nil {
		out.Text = bare(theSite(row.ID), err.Error())
	}
	return out
}

// serveTasks answers another site.
func (s *Server) serveTasks(context.Context, []byte) ([]byte, error) {
	return envelope.Marshal(s.ownTasks())
}

func (s *Server) ownTasks() api.SiteTasks {
	out := api.SiteTasks{Server: s.cfg.ID, Open: []api.Task{}, Illegal: s.illegalTasks()}
	s.machines.mu.Lock()
	defer s.machines.mu.Unlock()
	if s.machines.desk != nil {
		out.Open = append(out.Open, s.machines.desk.Tasks()...)
	}
	return out
}
