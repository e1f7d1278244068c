package main

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// adminTopic creates a topic, finds it in the list, and deletes it.
func adminTopic(d *driver, f facts) error {
	topic, queues, err := d.createTopic("admin", 3)
	if err != nil {
		return err
	}
	f.say("created", map[string]any{"queues": len(queues)})
	a, err := d.admin()
	if err != nil {
		return err
	}
	defer a.Close()
	listed := func() bool {
		list, err := a.FetchAllTopicList(context.Background())
		if err != nil {
			return false
		}
		for _, t := range list.TopicList {
			if t == topic {
				return true
			}
		}
		return false
	}
	f.say("listed", map[string]any{"yes": listed()})
	broker, err := brokerAddress(string(d.ns[0]))
	if err != nil {
		return err
	}
	err = a.DeleteTopic(context.Background(), admin.WithTopicDelete(topic), admin.WithBrokerAddrDelete(broker), admin.WithNameSrvAddr(d.ns))
	if err != nil {
		return err
	}
	if err := await("the topic to go", func() bool { return !listed() }); err != nil {
		return err
	}
	f.say("deleted", nil)
	return nil
}

func (d *driver) producer(options ...producer.Option) (rocketmq.Producer, error) {
	options = append(options, producer.WithNameServer(d.ns), producer.WithInstanceName(d.name()), producer.WithGroupName(d.prefix+"_producer"),
		producer.WithSendMsgTimeout(10*time.Second))
	p, err := rocketmq.NewProducer(options...)
	if err != nil {
		return nil, err
	}
	return p, p.Start()
}

// sendWays sends synchronously, asynchronously and one-way to a topic that the first send creates.
func sendWays(d *driver, f facts) error {
	p, err := d.producer()
	if err != nil {
		return err
	}
	defer p.Shutdown()
	topic, ctx := d.topic("ways"), context.Background()
	for i := 0; i < 6; i++ {
		body := fmt.Sprintf("sync-%d", i)
		r, err := p.SendSync(ctx, message(topic, fmt.Sprintf("tag%d", i%2), body, fmt.Sprintf("key%d", i), "both"))
		if err != nil {
			return err
		}
		f.sent("sync", body, r)
	}
	var answers sync.WaitGroup
	for i := 0; i < 6; i++ {
		body := fmt.Sprintf("async-%d", i)
		answers.Add(1)
		err := p.SendAsync(ctx, func(_ context.Context, r *primitive.SendResult, err error) {
			defer answers.Done()
			if err != nil {
				f.say("refused", map[string]any{"how": "async", "body": body, "error": err.Error()})
				return
			}
			f.sent("async", body, r)
		}, message(topic, "tag", body, fmt.Sprintf("async%d", i)))
		if err != nil {
			return err
		}
	}
	answers.Wait()
	for i := 0; i < 6; i++ {
		if err := p.SendOneWay(ctx, message(topic, "tag", fmt.Sprintf("oneway-%d", i), fmt.Sprintf("oneway%d", i))); err != nil {
			return err
		}
	}
	return d.readBack(f, topic, 18)
}

func batch(d *driver, f facts) error {
	topic, _, err := d.createTopic("batch", 2)
	if err != nil {
		return err
	}
	p, err := d.producer()
	if err != nil {
		return err
	}
	defer p.Shutdown()
	var messages []*primitive.Message
	for i := 0; i < 20; i++ {
		messages = append(messages, message(topic, fmt.Sprintf("tag%d", i%2), fmt.Sprintf("batch-%d", i), fmt.Sprintf("batch%d", i)))
	}
	r, err := p.SendSync(context.Background(), messages...)
	if err != nil {
		return err
	}
	f.sent("batch", "batch", r)
	return d.readBack(f, topic, 20)
}

// largeBody sends what client-go compresses.
func largeBody(d *driver, f facts) error {
	topic, _, err := d.createTopic("large", 1)
	if err != nil {
		return err
	}
	p, err := d.producer()
	if err != nil {
		return err
	}
	defer p.Shutdown()
	body := bytes.Repeat([]byte("abcdefghijklm"), 8000)
	f.say("body", map[string]any{"size": len(body), "crc": crc32.ChecksumIEEE(body)})
	r, err := p.SendSync(context.Background(), primitive.NewMessage(topic, body))
	if err != nil {
		return err
	}
	f.sent("sync", "large", r)
	return d.readBack(f, topic, 1)
}

func (d *driver) puller(group, topic string) (rocketmq.PullConsumer, error) {
	c, err := rocketmq.NewPullConsumer(consumer.WithGroupName(d.prefix+"_"+group), consumer.WithNameServer(d.ns), consumer.WithInstance(d.name()))
	if err != nil {
		return nil, err
	}
	if err := c.Subscribe(topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}); err != nil {
		return nil, err
	}
	return c, c.Start()
}

// readBack says every message of a topic once `expected` of them can be read.
func (d *driver) readBack(f facts, topic string, expected int) error {
	a, err := d.admin()
	if err != nil {
		return err
	}
	defer a.Close()
	var queues []*primitive.MessageQueue
	// A topic that the first send made is told to the name server beside the answer, not before it.
	err = await("route of "+topic, func() bool {
		queues, err = a.FetchPublishMessageQueues(context.Background(), topic)
		return err == nil
	})
	if err != nil {
		return err
	}
	c, err := d.puller("readback_"+topic, topic)
	if err != nil {
		return err
	}
	// Not shut down: that would wait for the pulls that are held.
	// All queues at once, each up to its end: client-go's pull at the end of a queue is held for 20 s.
	found := make(chan *primitive.MessageExt, 1000)
	for _, q := range queues {
		go func(q *primitive.MessageQueue) {
			for at, end := int64(0), time.Now().Add(patience); time.Now().Before(end); {
				r, err := c.PullFrom(context.Background(), q, at, 32)
				if err != nil || r.Status != primitive.PullFound {
					continue
				}
				for _, m := range r.GetMessageExts() {
					found <- m
				}
				at = r.NextBeginOffset
			}
		}(q)
	}
	var seen []*primitive.MessageExt
	for late := time.After(patience); len(seen) < expected; {
		select {
		case m := <-found:
			seen = append(seen, m)
		case <-late:
			err = fmt.Errorf("only %d of %d messages in %s", len(seen), expected, topic)
			expected = 0
		}
	}
	sort.SliceStable(seen, func(i, j int) bool { return seen[i].Queue.QueueId < seen[j].Queue.QueueId })
	for _, m := range seen {
		f.message("stored", "pull", m)
	}
	return err
}

func (d *driver) pusher(f facts, name, group, topic, tags string, count *atomic.Int32, options ...consumer.Option) (rocketmq.PushConsumer, error) {
	options = append(options, consumer.WithGroupName(d.prefix+"_"+group), consumer.WithNameServer(d.ns), consumer.WithInstance(d.name()),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	c, err := rocketmq.NewPushConsumer(options...)
	if err != nil {
		return nil, err
	}
	err = c.Subscribe(topic, consumer.MessageSelector{Type: consumer.TAG, Expression: tags},
		func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			for _, m := range messages {
				f.message("got", name, m)
				count.Add(1)
			}
			return consumer.ConsumeSuccess, nil
		})
	if err != nil {
		return nil, err
	}
	return c, c.Start()
}

// clustering lets two consumers of a group take turns: when the first has left, the second goes on where it was.
func clustering(d *driver, f facts) error {
	topic, _, err := d.createTopic("cluster", 4)
	if err != nil {
		return err
	}
	p, err := d.producer()
	if err != nil {
		return err
	}
	defer p.Shutdown()
	send := func(name string, n int) error {
		for i := 0; i < n; i++ {
			if _, err := p.SendSync(context.Background(), message(topic, "tag", fmt.Sprintf("%s-%d", name, i))); err != nil {
				return err
			}
		}
		return nil
	}
	var count atomic.Int32
	a, err := d.pusher(f, "a", "cluster", topic, "*", &count)
	if err != nil {
		return err
	}
	if err := send("first", 40); err != nil {
		return err
	}
	if err := await("40 messages", func() bool { return count.Load() >= 40 }); err != nil {
		return err
	}
	if err := a.Shutdown(); err != nil { // stores its offsets
		return err
	}
	f.say("restarted", nil)
	if err := send("second", 10); err != nil {
		return err
	}
	c, err := d.pusher(f, "c", "cluster", topic, "*", &count)
	if err != nil {
		return err
	}
	defer c.Shutdown()
	return await("10 more messages", func() bool { return count.Load() >= 50 })
}

func tagFilter(d *driver, f facts) error {
	topic, queues, err := d.createTopic("tags", 2)
	if err != nil {
		return err
	}
	p, err := d.producer(producer.WithQueueSelector(producer.NewManualQueueSelector()))
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for i := 0; i < 14; i++ { // 12 of three tags, then one more of tag a in each queue: what is wrong would come before them
		tag, body := "abc"[i%3:i%3+1], fmt.Sprintf("tags-%d", i)
		if i >= 12 {
			tag, body = "a", fmt.Sprintf("last-%d", i%2)
		}
		m := message(topic, tag, body)
		m.Queue = queues[i%2]
		if _, err := p.SendSync(context.Background(), m); err != nil {
			return err
		}
	}
	var count atomic.Int32
	c, err := d.pusher(f, "filter", "tags", topic, "a || b", &count)
	if err != nil {
		return err
	}
	defer c.Shutdown()
	return await("8 messages and the last of each queue", func() bool { return count.Load() >= 10 })
}

// orderly consumes four queues under locks.
func orderly(d *driver, f facts) error {
	topic, queues, err := d.createTopic("orderly", 4)
	if err != nil {
		return err
	}
	p, err := d.producer(producer.WithQueueSelector(producer.NewManualQueueSelector()))
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for i := 0; i < 40; i++ {
		m := message(topic, "tag", fmt.Sprintf("q%d-%d", i%4, i/4))
		m.Queue = queues[i%4]
		if _, err := p.SendSync(context.Background(), m); err != nil {
			return err
		}
	}
	var count atomic.Int32
	c, err := d.pusher(f, "a", "orderly", topic, "*", &count, consumer.WithConsumerOrder(true))
	if err != nil {
		return err
	}
	defer c.Shutdown()
	return await("40 messages", func() bool { return count.Load() >= 40 })
}

// pull reads one queue by hand and stores an offset.
func pull(d *driver, f facts) error {
	topic, queues, err := d.createTopic("pull", 1)
	if err != nil {
		return err
	}
	p, err := d.producer()
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for i := 0; i < 10; i++ {
		if _, err := p.SendSync(context.Background(), message(topic, "tag", fmt.Sprintf("pull-%d", i))); err != nil {
			return err
		}
	}
	c, err := d.puller("pull", topic)
	if err != nil {
		return err
	}
	defer c.Shutdown()
	for what, at := range map[string]struct {
		offset int64
		count  int
	}{"all": {0, 32}, "three": {4, 3}, "at_end": {10, 32}} {
		r, err := c.PullFrom(context.Background(), queues[0], at.offset, at.count)
		if err != nil {
			return err
		}
		status := map[primitive.PullStatus]string{primitive.PullFound: "FOUND", primitive.PullNoNewMsg: "NO_NEW_MSG"}[r.Status]
		f.say("pulled", map[string]any{"what": what, "status": status, "next": r.NextBeginOffset, "min": r.MinOffset, "max": r.MaxOffset,
			"count": len(r.GetMessageExts())})
		for _, m := range r.GetMessageExts() {
			f.message("got", what, m)
		}
	}
	if err := c.UpdateOffset(queues[0], 7); err != nil {
		return err
	}
	return c.PersistOffset(context.Background(), topic)
}
