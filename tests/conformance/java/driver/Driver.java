import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * The official Java client put through named scenarios, all of them side by side in one JVM, as its start is what costs time.
 * Usage: Driver ns=HOST:PORT prefix=NAME [scenarios=a,b,c] (all but the store_ ones when none are named). Compiled against each client version from the same source.
 * The header encoding is the client's own setting: -Drocketmq.serialize.type=JSON|ROCKETMQ.
 */
public final class Driver {
    /** One scenario: does its work, says its facts, throws when it can't go on. */
    interface Scenario {
        void run(Driver driver, Facts facts) throws Exception;
    }

    static final long PATIENCE_MS = 45_000;
    private static final AtomicInteger INSTANCES = new AtomicInteger();

    final String ns;
    final String prefix;
    final DefaultMQProducer producer;

    private Driver(String ns, String prefix) throws Exception {
        this.ns = ns;
        this.prefix = prefix;
        producer = new DefaultMQProducer(prefix + "_producer");
        producer.setNamesrvAddr(ns);
        producer.setInstanceName(instance());
        producer.setSendMsgTimeout(10_000);
        producer.start();
    }

    public static void main(String[] args) throws Exception {
        Map<String, String> options = new LinkedHashMap<>();
        for (String a : args) {
            options.put(a.substring(0, a.indexOf('=')), a.substring(a.indexOf('=') + 1));
        }
        Map<String, Scenario> all = new LinkedHashMap<>();
        Sending.register(all);
        Reading.register(all);
        Consuming.register(all);
        Map<String, Scenario> onRequest = new LinkedHashMap<>(all);
        Filling.register(onRequest);
        String wanted = options.getOrDefault("scenarios", String.join(",", all.keySet()));
        Driver driver = new Driver(options.get("ns"), options.get("prefix"));
        List<Thread> threads = new ArrayList<>();
        for (String name : wanted.split(",")) {
            Thread t = new Thread(() -> one(driver, name, onRequest.get(name)), name);
            t.start();
            threads.add(t);
        }
        for (Thread t : threads) {
            t.join();
        }
        driver.producer.shutdown();
        System.exit(0);
    }

    private static void one(Driver driver, String name, Scenario scenario) {
        Facts facts = new Facts(name);
        long start = System.currentTimeMillis();
        try {
            scenario.run(driver, facts);
            facts.say("end", "ms", System.currentTimeMillis() - start);
        } catch (Throwable e) {
            java.io.StringWriter trace = new java.io.StringWriter();
            e.printStackTrace(new java.io.PrintWriter(trace));
            facts.say("failed", "error", trace.toString(), "ms", System.currentTimeMillis() - start);
        }
    }

    /** Each client gets its own connection and client id. */
    static String instance() {
        return "i" + INSTANCES.incrementAndGet();
    }

    String topic(String name) {
        return prefix + "_" + name;
    }

    /** Creates a topic through the client's own admin call and waits until the name server routes to it. */
    String createTopic(String name, int queues) throws Exception {
        String topic = topic(name);
        for (Method m : DefaultMQProducer.class.getMethods()) { // 5.x added a map of attributes to the same call
            if (m.getName().equals("createTopic") && m.getParameterTypes()[2] == int.class
                && m.getParameterTypes()[m.getParameterCount() - 1] != int.class && m.getParameterCount() == 4) {
                m.invoke(producer, "TBW102", topic, queues, Collections.emptyMap());
            } else if (m.getName().equals("createTopic") && m.getParameterCount() == 3) {
                m.invoke(producer, "TBW102", topic, queues);
            }
        }
        await("route of " + topic, () -> queues(topic).size() == queues);
        return topic;
    }

    List<MessageQueue> queues(String topic) {
        try {
            List<MessageQueue> queues = new ArrayList<>(producer.fetchPublishMessageQueues(topic));
            Collections.sort(queues);
            return queues;
        } catch (Exception notYet) {
            return new ArrayList<>();
        }
    }

    /** A short message: body `text`, one tag, keys as given. */
    static Message message(String topic, String tag, String keys, String text) {
        Message m = new Message(topic, tag, keys, text.getBytes());
        m.putUserProperty("color", "blue \u00e9");
        return m;
    }

    static void await(String what, Callable<Boolean> done) throws Exception {
        long end = System.currentTimeMillis() + PATIENCE_MS;
        while (!done.call()) {
            if (System.currentTimeMillis() > end) {
                throw new IllegalStateException("waited in vain for " + what);
            }
            Thread.sleep(20);
        }
    }
}
