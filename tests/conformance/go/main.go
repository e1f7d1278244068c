// Command driver puts client-go v2 through named scenarios side by side and prints what it saw as JSON lines: the Rust side decides
// what is right. Usage: driver ns=HOST:PORT prefix=NAME [scenarios=a,b,c].
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

const patience = 45 * time.Second

// A driver is the cluster under test as seen by all scenarios.
type driver struct {
	ns       primitive.NamesrvAddr
	prefix   string
	instance atomic.Int32
}

// Facts are printed under the name of their scenario.
type facts struct{ scenario string }

var output sync.Mutex

func (f facts) say(fact string, values map[string]any) {
	if values == nil {
		values = map[string]any{}
	}
	values["scenario"], values["fact"] = f.scenario, fact
	line, err := json.Marshal(values)
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(line))
}

func (f facts) message(fact, how string, m *primitive.MessageExt) {
	body := string(m.Body)
	if len(body) > 200 {
		body = ""
	}
	f.say(fact, map[string]any{"how": how, "topic": m.Topic, "queue": m.Queue.QueueId, "offset": m.QueueOffset, "id": m.MsgId,
		"tags": m.GetTags(), "keys": m.GetKeys(), "size": len(m.Body), "crc": crc32.ChecksumIEEE(m.Body), "body": body,
		"reconsume": m.ReconsumeTimes, "properties": m.GetProperties(), "born": m.BornHost, "store_time": m.StoreTimestamp,
		"offset_id": m.OffsetMsgId})
}

func (f facts) sent(how, body string, r *primitive.SendResult) {
	status := "OTHER"
	if r.Status == primitive.SendOK {
		status = "SEND_OK"
	}
	f.say("sent", map[string]any{"how": how, "body": body, "status": status, "id": r.MsgID, "offset_id": r.OffsetMsgID,
		"topic": r.MessageQueue.Topic, "queue": r.MessageQueue.QueueId, "offset": r.QueueOffset, "region": r.RegionID})
}

func main() {
	rlog.SetLogLevel("fatal")
	options := map[string]string{}
	for _, a := range os.Args[1:] {
		key, value, _ := strings.Cut(a, "=")
		options[key] = value
	}
	d := &driver{ns: primitive.NamesrvAddr{options["ns"]}, prefix: options["prefix"]}
	all := map[string]func(*driver, facts) error{
		"admin": adminTopic, "send_ways": sendWays, "batch": batch, "large_body": largeBody,
		"clustering": clustering, "tag_filter": tagFilter, "orderly": orderly, "pull": pull,
	}
	wanted := options["scenarios"]
	var group sync.WaitGroup
	for name, scenario := range all {
		if wanted != "" && !strings.Contains(","+wanted+",", ","+name+",") {
			continue
		}
		group.Add(1)
		go func(name string, scenario func(*driver, facts) error) {
			defer group.Done()
			f, start := facts{name}, time.Now()
			defer func() {
				if p := recover(); p != nil {
					f.say("failed", map[string]any{"error": fmt.Sprint(p)})
				}
			}()
			if err := scenario(d, f); err != nil {
				f.say("failed", map[string]any{"error": err.Error()})
				return
			}
			f.say("end", map[string]any{"ms": time.Since(start).Milliseconds()})
		}(name, scenario)
	}
	group.Wait()
}

// name makes every client one of its own: client-go shares connections of one instance name.
func (d *driver) name() string {
	return fmt.Sprintf("go%d-%d", os.Getpid(), d.instance.Add(1))
}

func (d *driver) topic(name string) string { return d.prefix + "_" + name }

func (d *driver) admin() (admin.Admin, error) {
	return admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver(d.ns)))
}

// createTopic asks the one broker of the cluster for a topic and waits for its route.
func (d *driver) createTopic(name string, queues int) (string, []*primitive.MessageQueue, error) {
	a, err := d.admin()
	if err != nil {
		return "", nil, err
	}
	defer a.Close()
	topic := d.topic(name)
	broker, err := brokerAddress(string(d.ns[0]))
	if err != nil {
		return "", nil, err
	}
	err = a.CreateTopic(context.Background(), admin.WithTopicCreate(topic), admin.WithBrokerAddrCreate(broker),
		admin.WithReadQueueNums(queues), admin.WithWriteQueueNums(queues))
	if err != nil {
		return "", nil, err
	}
	var found []*primitive.MessageQueue
	err = await("route of "+topic, func() bool {
		found, err = a.FetchPublishMessageQueues(context.Background(), topic)
		return err == nil && len(found) == queues
	})
	return topic, found, err
}

func await(what string, done func() bool) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return nil
		}
	}
	return fmt.Errorf("waited in vain for %s", what)
}

func message(topic, tag, text string, keys ...string) *primitive.Message {
	m := primitive.NewMessage(topic, []byte(text))
	m.WithTag(tag).WithKeys(keys)
	m.WithProperty("color", "blue \u00e9")
	return m
}
