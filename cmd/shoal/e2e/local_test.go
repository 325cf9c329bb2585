//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"
)

// localApp has a pod on each of three nodes, whose node port leads to the pods there alone. A pod that was told to stop
// serves for a while. Every node has its new pod before old ones go.
func localApp(greeting string, replicas int) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 8080, nodePort: 30080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxSurge: 3, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: web}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, matchLabelKeys: [pod-template-hash]}
      containers:
      - name: web
        image: shoal.local/probe:v1
        args: [serve, -linger, 3s]
        env: [{name: GREETING, value: %s}]
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /readyz, port: 8080}}
`, replicas, greeting)
}

// Rolling updates under load from outside on each node's port, which leads to pods of that node alone: no request fails,
// for the endpoint of a pod leaves before it is stopped, and where all that a node has are about to stop they serve on until
// they are gone. A health check's port tells this to the load balancer of a Service of type LoadBalancer; there are
// none yet, so nothing is asked of one here.
func TestFault_W6_RollingUpdateOfLocalTraffic(t *testing.T) {
	r := newRing(t, 3).start()
	first := r.nodes[0]
	first.Image("probe:v1")
	repo := first.Repository(map[string]string{"apps/web/web.yaml": localApp("one", 3)})
	repo.Push("one")
	everywhere := func(greeting string) {
		t.Helper()
		first.Eventually(60*time.Second, func() error {
			if err := first.podsReady(3); err != nil {
				return err
			}
			for i, n := range r.nodes {
				if err := r.nodes[(i+1)%3].answers("http://"+n.address+":30080/env", "GREETING="+greeting); err != nil {
					return fmt.Errorf("%s: %w", n.name, err)
				}
			}
			return nil
		})
	}
	everywhere("one")
	if on := podsOn(first.Status()); len(on) != 3 {
		t.Fatalf("pods on the nodes: %v", on)
	}
	load := func() (all []*load) {
		for i, n := range r.nodes {
			all = append(all, r.nodes[(i+1)%3].load("http://"+n.address+":30080/readyz", 4))
		}
		return all
	}
	loads := load()
	for i := range rounds(2, 6) {
		greeting := fmt.Sprint("update", i)
		repo.Write("apps/web/web.yaml", localApp(greeting, 3))
		repo.Push(greeting)
		everywhere(greeting)
	}
	for _, l := range loads {
		l.end(t)
	}

	// All are told to stop: they serve until they are gone, 3 s later.
	told := time.Now()
	loads = load()
	repo.Write("apps/web/web.yaml", localApp("none", 0))
	repo.Push("none")
	first.Eventually(10*time.Second, func() error {
		stopping := 0
		for _, p := range first.Status().Pods {
			if p.Status == "Terminating" {
				stopping++
			}
		}
		if stopping != 3 {
			return fmt.Errorf("%d of 3 pods are about to stop: %+v", stopping, first.Status().Pods)
		}
		return nil
	})
	time.Sleep(time.Until(told.Add(2500 * time.Millisecond)))
	for _, l := range loads {
		l.end(t)
	}
	for i, n := range r.nodes { // and then the door is shut at once, not after a timeout
		n.Eventually(20*time.Second, func() error {
			begun := time.Now()
			_, err := r.nodes[(i+1)%3].Get("http://" + n.address + ":30080/env")
			if took := time.Since(begun); err == nil || took > time.Second {
				return fmt.Errorf("after %s: %w", took, err)
			}
			return nil
		})
	}
}
